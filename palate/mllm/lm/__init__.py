"""Language models: loading, chat templates, processors, and the embedded one."""
