"""One archive made by several processes: plan files, parts, their join, and archives in object storage."""
