"""Data for other trainers: exports, and instruction data for alignment."""
