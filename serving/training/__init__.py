"""How the shipped models are made: networks, rendered images, training, evaluation."""
