"""Similar rows: bits of codes, Hamming neighbours in memory, and indexes on disk with filters and versions."""
