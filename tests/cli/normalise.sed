# What changes from run to run, from build to build, or with the number of processors.
s/"version":"[0-9.]+"/"version":"VERSION"/g
s/wsurg [0-9]+\.[0-9]+\.[0-9]+ \([^)]*\)/wsurg VERSION (BUILD)/g
s/ [0-9.]+ s · peak [0-9]+ MiB/ TIME s · peak N MiB/
s/"run":\{"seconds":[^}]*\}/"run":{…}/g
s/(sha256:)[0-9a-f]{64}/\1DIGEST/g
s/(xxh3-128:)[0-9a-f]{32}/\1DIGEST/g
s/"(memory|memory_floor|disk_free)":[0-9]+/"\1":N/g
s/^memory      .*/memory      N MiB, at least N MiB/
s/ of [0-9.]+ [kKMGTP]?B free/ of N free/
s/wsurg-[A-Za-z0-9]{6}\//wsurg-RANDOM\//g
s/wsurg-stdin-[A-Za-z0-9]{6}\//wsurg-stdin-RANDOM\//g
