"""Tables in files: CSV, XLSX and JSON Lines, read and written in bounded memory."""
