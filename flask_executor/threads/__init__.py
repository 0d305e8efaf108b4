"""What threads wait with and run in, and what has to be made anew after a fork."""
