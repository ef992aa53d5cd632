"""The options of the plugin: the table, the parsers and the configuration made from them."""
