"""Mail to test with: `real` loads 6,046 messages of strangers, `sample` holds what we wrote ourselves."""
