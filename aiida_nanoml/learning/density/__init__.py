"""Networks that predict the self-consistent density from that of free atoms."""
