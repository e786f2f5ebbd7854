"""Speed and accuracy of Graft compared with other libraries, measured in turn on one machine."""
