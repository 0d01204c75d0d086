"""The demo: every stage of the library on a shop that is drawn here."""
