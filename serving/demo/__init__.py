"""The demo: the whole study line on real components, played through the command line."""
