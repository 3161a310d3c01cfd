"""Rare classes and few images: thinned training sets over draws, from records to tables, figures and findings."""
