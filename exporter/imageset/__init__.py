"""The image set: what a person asks for, from an ImageSetConfiguration file or from options."""
