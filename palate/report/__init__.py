"""Runs, tables and users as one page to look at: a single HTML file that asks the network for nothing."""
