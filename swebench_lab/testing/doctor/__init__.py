"""What works on this machine, found out by doing it; what killed processes left on it; how to fix the rest."""
