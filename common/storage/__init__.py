"""Object storage that speaks S3: objects, read in ranges and written in parts. The only home of boto3 (ADR 0023)."""
