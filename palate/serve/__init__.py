"""The service behind ``palate serve``: bundles answer over HTTP, and a web page shows what they answer."""
