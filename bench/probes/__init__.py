"""What runs on the hosts, each module a script of its own that prints JSON."""
