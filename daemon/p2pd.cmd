@echo off
rem The p2p daemon, started when its user logs in. `p2p service install` fills in what stands between at signs.
start "@name@" /min cmd /d /c ""@program@"@arguments@ >>"@log@" 2>&1"
