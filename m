example/_main/log/0
2
+mRs4lZREYje5IBC4AMEjq6gLXXL9xwsz2QM4r2sqvc=
