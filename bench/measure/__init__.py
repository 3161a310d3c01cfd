"""What a model costs and shows: parameters and MACs, seconds and memory, Grad-CAM."""
