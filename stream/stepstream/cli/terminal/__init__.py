"""What commands print: tables, progress, escaped text."""
