"""SimGrid's platform files (XML, version 4): hosts, links, zones and their routes."""
