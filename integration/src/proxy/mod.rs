//! A counting proxy between a process and the API server.
