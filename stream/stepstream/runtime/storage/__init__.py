"""Where logs and tables are kept on a disk or in memory."""
