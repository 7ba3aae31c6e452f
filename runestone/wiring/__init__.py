"""From the configuration to objects, part by part; app.py puts the parts together."""
