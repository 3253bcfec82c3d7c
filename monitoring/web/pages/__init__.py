"""One module a page: each reads views in one transaction and returns a heading and facts."""
