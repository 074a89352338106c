"""Rules, placement of Q/DQ, weights and corrections."""
