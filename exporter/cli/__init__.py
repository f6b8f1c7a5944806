"""The command line of `hub-export`: options, commands, JSON documents and tables."""
