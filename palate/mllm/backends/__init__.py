"""Who answers chats: a model in this process, or a server."""
