"""What the project takes from others: `make audit`, `make sbom` and `make bundle`, all from the lock files."""
