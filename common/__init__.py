"""What both sides of the gap share: the archive, the registry client and the loop that copies between them."""
