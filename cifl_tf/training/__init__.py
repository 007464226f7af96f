"""What every resumable training shares."""
