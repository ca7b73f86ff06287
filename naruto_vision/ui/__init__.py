"""The web application: a service without a web library, a page that lays it out, and a REST API."""
