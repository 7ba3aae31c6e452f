"""What outlives the process: files, and how they are written. Blocking code, run in threads; SQL stands here only."""
