# A store of an MMX register goes into MMX state like all others: TOP is 0. CPUs of AMD leave it alone.
# native: intel
# in:  fsw=1800 rdi=20000100 ftw=ff
# out: fsw=0 ftw=ff mem:100=0000000000000000
movq %mm7, (%rdi)
