//! The key hierarchy: data keys, the keyring that holds them, and the providers that unlock it.
