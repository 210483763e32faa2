"""What the journey is made of: the cluster, the servers around it, the clients before it, and the count of checks."""
