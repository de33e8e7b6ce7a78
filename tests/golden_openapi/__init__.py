"""The OpenAPI document as it is published, for its changes to be made on purpose. README.md says more."""
