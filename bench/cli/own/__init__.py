"""Commands for what one brings oneself: a recipe, a sweep, single images."""
