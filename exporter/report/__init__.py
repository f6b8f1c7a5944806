"""report.html: what an archive carries, for the person who approves the transfer and for the one who receives it."""
