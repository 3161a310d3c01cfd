"""Records and cards in formats that others read: Croissant, Every Eval Ever, results of the Hugging Face Hub."""
