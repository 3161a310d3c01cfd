"""What a store can notice by itself: each record, its training, the records beside it, the other evidence."""
