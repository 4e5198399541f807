"""The edge daemon: own data, zeroth-order local rounds, one session with one server. Never imports the server."""
