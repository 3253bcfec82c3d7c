"""Model packages and the Ray Serve engine that runs them."""
