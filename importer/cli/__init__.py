"""The command line of `hub-import`: options, commands, JSON documents and tables."""
