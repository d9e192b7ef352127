"""By whose rules a log is read and which tests decide."""
