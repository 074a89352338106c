"""How far a model is from the fp32 model: golden vectors, distance, closeness, accuracy."""
