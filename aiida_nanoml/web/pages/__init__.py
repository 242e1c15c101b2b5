"""The pages, one module for each part of the site: each has a function ``routes`` that makes its routes."""
