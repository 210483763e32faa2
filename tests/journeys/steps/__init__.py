"""The journey's parts, in the order of journey.py."""
