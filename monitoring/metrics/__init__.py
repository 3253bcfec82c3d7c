"""What Prometheus reads: counts, ages and states out of the shared views, and of this machine."""
