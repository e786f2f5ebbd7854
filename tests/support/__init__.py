"""What several tests share: tiny data and models, servers on loopback, a browser."""
