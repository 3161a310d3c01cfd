"""The pages that a reader opens: the answer, a page a data set, claims, costs, models, tracks."""
