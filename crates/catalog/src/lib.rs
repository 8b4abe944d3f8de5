//! Components, versions, options and images, rendered into Desired.
